"""The steps from labelled clips to questions and answers."""
