"""How the demo model was made: scenes, training, calibration, scores, export."""
