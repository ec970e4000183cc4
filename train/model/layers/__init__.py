"""Linear layers computed otherwise than PyTorch and peft do."""
