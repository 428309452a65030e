"""What may be done to a fleet without losing anything: kills, stops, jumps, other boots."""
