"""What an answer is worth: what is known of the clip, of the model and of its words."""
