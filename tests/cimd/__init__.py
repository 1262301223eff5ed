"""Tests of fetching client ID metadata documents."""
