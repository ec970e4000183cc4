"""Names of the released encoders and of the decoders, apart from everything heavy: the command line shows them."""

DEFAULT_VIDEO_ENCODER = "LanguageBind/LanguageBind_Video_merge"
DEFAULT_AUDIO_ENCODER = "openai/whisper-large-v3"
DECODERS = ("pyav", "decord")
DEFAULT_DECODER = "pyav"
VIDEO_SUFFIXES = (".mp4", ".avi", ".flv", ".mov", ".mkv", ".webm", ".m4v")
SOUND_SUFFIXES = (".wav", ".flac", ".mp3", ".m4a")
