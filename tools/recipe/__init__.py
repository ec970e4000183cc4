"""Recipes: the commands that make a model which nobody released, with what each needs and costs."""
