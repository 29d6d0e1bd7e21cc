"""This room gets files from the Hugging Face hub and from addresses: resumed, and compared."""
