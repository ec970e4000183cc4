"""VCD's noise schedule in numbers; apart from the settings, so that the command line need not load them."""

DIFFUSION_STEPS = 1000
"""Length of VCD's schedule; a step is a number below."""
DIFFUSION_STEP = 500
"""VCD's default step."""
