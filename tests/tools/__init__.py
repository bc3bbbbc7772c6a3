"""What is run by hand to try or measure the service, and is no test itself."""
