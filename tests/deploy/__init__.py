"""What carries the proxy to where it runs: image, chart, pipeline, and what is written about them."""
