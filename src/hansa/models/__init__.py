"""Models of every kind as pure functions (`hansa.models.model.FunctionalModel`), and optimizers likewise."""
