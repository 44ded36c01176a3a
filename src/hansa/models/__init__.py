"""Models of every kind as pure functions (`hansa.models.model.Model`), and optimizers likewise."""
