"""What a training, a data set and its detections show: under the names of MMDetection's analysis tools."""
