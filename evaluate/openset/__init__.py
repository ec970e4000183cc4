"""Open-vocabulary emotion labels, and the emotion-wheel metric of MER-UniBench and MER2026's track 2."""
