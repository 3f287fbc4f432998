"""Array libraries, and the execution of batches."""
