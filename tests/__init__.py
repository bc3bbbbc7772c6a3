"""Tests of the service, named after what they are about."""
