"""What Meta, Twilio and Standard Webhooks send."""
