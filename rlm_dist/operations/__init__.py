"""What operators look at: the doctor, Flower, estimates, forecasts, traces as text, and the demonstration."""
