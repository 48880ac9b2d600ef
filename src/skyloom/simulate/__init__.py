"""Made-up observations with known truth, one module per study."""
