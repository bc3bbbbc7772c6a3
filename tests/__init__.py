"""Tests of the service, named after what they are about.

A folder has the tests of the room of that name; those of the whole service are beside the folders.
`tools` has what is run by hand.
"""
