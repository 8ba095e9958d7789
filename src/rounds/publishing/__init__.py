"""Publishing: a round's model as other tools load it, its model card, and the upload to the Hugging Face hub."""
