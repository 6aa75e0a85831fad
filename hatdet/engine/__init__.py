"""Trainers, the calibrator, the predictor, batch processors and callbacks; no models, data or metrics in here."""
