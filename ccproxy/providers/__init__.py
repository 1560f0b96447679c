"""Provider facts as data: quirks, presets and model cards."""
