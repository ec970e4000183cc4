"""Yes/no benchmarks of hallucination: AVHBench, CMM and EmotionHallucer, on the machinery of the EmoReAlM bench."""
