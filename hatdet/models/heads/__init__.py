"""Networks that turn feature maps into the raw output maps."""
