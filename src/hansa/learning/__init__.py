"""Learning."""
from hansa.learning.averaging import build_federated_averaging_process
from hansa.models.keras_models import from_compiled_keras_model, from_keras_model
