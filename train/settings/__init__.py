"""Settings: presets, TOML files and overrides become one checked configuration."""
