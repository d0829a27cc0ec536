"""The tests of aiozpat."""
