"""The documentation site: its pages are collected, the reference is generated, and every link is checked."""
