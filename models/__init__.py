"""Engine wrappers: sync, batch in → batch out, same length and order. Knows neither Ray nor routes nor stores."""
