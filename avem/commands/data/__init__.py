"""Commands that make and check data: preference rows, benchmarks, surveys."""
