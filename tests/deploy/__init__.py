"""What is shipped around the program: the image, the chart, the pipeline."""
