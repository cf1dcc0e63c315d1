"""Binary masks of one image: how they are stored, counted and written."""
