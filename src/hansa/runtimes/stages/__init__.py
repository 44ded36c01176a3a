"""The stages of a program, apart from the engine that runs them: what every runtime and every worker stands on."""
