"""Names of the released encoders, apart from everything heavy because the command line's help shows them."""

DEFAULT_VIDEO_ENCODER = "LanguageBind/LanguageBind_Video_merge"
DEFAULT_AUDIO_ENCODER = "openai/whisper-large-v3"
