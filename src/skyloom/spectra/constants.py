"""Constants that spectra are converted with."""

SPEED_OF_LIGHT = 299792.458  # km/s
REST_FREQUENCY = 1420.405751768  # MHz, HI hyperfine transition
