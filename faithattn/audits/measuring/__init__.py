"""One batch measured: all metrics of an audit, sharing what they can share."""
