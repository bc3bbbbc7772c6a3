"""The work around every request, and the API's description."""
