"""Names that other frameworks use, and what is written in Hansa in their place. Data; `_answers` looks it up."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """What is written for some names.

    Attributes:
        names: those of other frameworks, with spaces between; they are found in whatever case, and with or without
            underscores.
        write: what is written here, or a sentence about it.
        page: of the documentation.
    """

    names: str
    write: str
    page: str


_AVERAGING = "hansa.learning.build_federated_averaging_process(model_fn"
_KERAS = "hansa.learning.from_compiled_keras_model(model, data.client(client_id))"

ROWS = (
    # Algorithms: TFF, Flower, FedML, PySyft.
    Row(
        "FedAvg FederatedAveraging build_fed_avg "
        "build_federated_averaging build_weighted_fed_avg_with_optimizer_schedule DifferentialPrivacyFedAvg FedAvgAPI "
        "algorithm strategy strategies aggregator server_aggregator",
        f"{_AVERAGING})",
        "coming_from_flower.md",
    ),
    Row(
        "PrivacyEngine make_private DPOptimizer DPSGDOptimizer DPKerasSGDOptimizer clipped_grad",
        'hansa.privacy.dpsgd("sgd", clip=1.0, noise_multiplier=1.1, steps=20, max_examples=1000, batch_size=64)',
        "privacy.md#each-example-of-a-site",
    ),
    Row("FedSGD", "hansa.learning.build_fed_sgd(model_fn)", "coming_from_tff.md"),
    Row("FedOpt", f"{_AVERAGING}, server_optimizer=optax.adam(0.01))", "coming_from_flower.md"),
    Row("FedAdam", "hansa.learning.build_fed_adam(model_fn, server_learning_rate=0.01)", "coming_from_flower.md"),
    Row("FedYogi", "hansa.learning.build_fed_yogi(model_fn, server_learning_rate=0.01)", "coming_from_flower.md"),
    Row("FedAdagrad", "hansa.learning.build_fed_adagrad(model_fn, server_learning_rate=0.01)", "coming_from_flower.md"),
    Row("FedAvgM", "hansa.learning.build_fed_avgm(model_fn)", "coming_from_flower.md"),
    Row("FedNova", "hansa.learning.build_fed_nova(model_fn, client_learning_rate=0.1)", "coming_from_flower.md"),
    Row(
        "FedProx",
        "hansa.learning.build_fed_prox(model_fn, proximal_strength=0.1)",
        "coming_from_tff.md",
    ),
    Row(
        "Scaffold",
        "hansa.learning.build_scaffold(model_fn, client_learning_rate=0.1, population=100)",
        "coming_from_flower.md",
    ),
    Row(
        "MimeLite build_mime_lite_with_optimizer_schedule",
        "hansa.learning.build_mime_lite(model_fn, base_optimizer=optax.sgd(0.1, momentum=0.9))",
        "coming_from_tff.md",
    ),
    Row(
        "QFedAvg", "hansa.learning.build_q_fed_avg(model_fn, q=1.0, client_learning_rate=0.1)", "coming_from_flower.md"
    ),
    Row(
        "aggregate_fit aggregate_train aggregate configure_fit configure_train",
        "an algorithm that is not here is made of parts of your own, with hansa.learning.build_process and "
        "hansa.learning.local_training",
        "composition.md",
    ),
    Row(
        "ClientWorkProcess FinalizerProcess DistributionProcess",
        "hansa.learning.build_process(model_fn, client_work=hansa.learning.local_training(…), finalizer=…)",
        "composition.md",
    ),
    Row("FedMedian", f"{_AVERAGING}, aggregator=hansa.aggregators.median())", "aggregators.md"),
    Row("FedTrimmedAvg", f"{_AVERAGING}, aggregator=hansa.aggregators.trimmed_mean(0.1))", "aggregators.md"),
    Row("Krum MultiKrum", f"{_AVERAGING}, aggregator=hansa.aggregators.krum(byzantine=1))", "aggregators.md"),
    Row("Bulyan", f"{_AVERAGING}, aggregator=hansa.aggregators.bulyan(byzantine=1))", "aggregators.md"),
    Row("RFA GeometricMedian", f"{_AVERAGING}, aggregator=hansa.aggregators.geometric_median())", "aggregators.md"),
    Row(
        "robust_aggregator",
        "aggregator=hansa.aggregators.zeroing(hansa.aggregators.clipping(quantile=0.8), quantile=0.98, multiplier=2.0, "
        "increment=1.0)",
        "aggregators.md",
    ),
    Row("compression_aggregator EncodedSumFactory", "aggregator=hansa.aggregators.quantised(bits=8)", "aggregators.md"),
    Row("MeanFactory UnweightedMeanFactory", "hansa.aggregators.mean(), or mean(weighted=False)", "aggregators.md"),
    Row("clipping_factory", "hansa.aggregators.clipping(bound=1.0)", "aggregators.md"),
    Row("zeroing_factory", "hansa.aggregators.zeroing(bound=10.0)", "aggregators.md"),
    Row("add_debug_measurements", "hansa.aggregators.measured()", "aggregators.md"),
    Row("FedBN", "hansa.learning.build_fed_bn(model_fn)", "algorithms.md#personal-models"),
    Row("FedPer FedRep", 'hansa.learning.build_fed_per(model_fn, personal="dense_1")', "algorithms.md#personal-models"),
    Row("Ditto", "hansa.learning.build_ditto(model_fn, lambda_=0.1)", "algorithms.md#personal-models"),
    Row("FedDyn", "hansa.learning.build_fed_dyn(model_fn, alpha=0.1, population=100)", "algorithms.md"),
    Row("Moon", "hansa.learning.build_moon(model_fn, mu=1.0)", "algorithms.md#clients-that-drift-apart"),
    Row(
        "build_fed_recon FedRecon ReconstructionModel",
        'hansa.learning.build_reconstruction(model_fn, local="user/*")',
        "algorithms.md#personal-models",
    ),
    Row(
        "build_fed_recon_eval build_personalization_eval_computation",
        "hansa.learning.build_personalization_eval(process)",
        "algorithms.md#personal-models",
    ),
    Row(
        "sklearn from_sklearn LogisticRegression GaussianNB StandardScaler PCA Ridge",
        "hansa.learning.tabular has processes whose states are fitted estimators of scikit-learn",
        "table.md#a-model-that-is-a-sum",
    ),
    Row("build_fed_kmeans", "hansa.analytics.build_k_means", "coming_from_tff.md"),
    Row("optimizers optimizer", f"{_AVERAGING}, client_optimizer=optax.adam(0.01))", "models.md"),
    # Evaluation and prediction.
    Row(
        "evaluate evaluation build_fed_eval build_evaluation federated_evaluation evaluator test validate",
        "hansa.learning.build_federated_evaluation(model_fn)",
        "evaluation.md",
    ),
    Row("predict predictor inference", "hansa.learning.build_prediction(model_fn, weights)", "evaluation.md"),
    Row(
        "get_model_weights get_weights get_parameters global_model_weights",
        "state.model holds the weights; state.model.assign_weights_to(keras_model) copies them",
        "coming_from_tff.md",
    ),
    Row(
        "set_model_weights set_weights set_parameters",
        "hansa.learning.with_weights(state, weights)",
        "coming_from_tff.md",
    ),
    # Models.
    Row(
        "from_keras keras_model from_model keras compile from_compiled_keras from_keras_compiled_model "
        "Sequential Functional",
        _KERAS,
        "models.md",
    ),
    Row(
        "models model",
        "hansa.learning.from_compiled_keras_model, hansa.learning.functional_model or hansa.learning.TrainableModel",
        "models.md",
    ),
    Row(
        "from_pytorch torch pytorch from_torch_module from_lightning LightningModule Module TorchModel nn",
        "hansa.learning.from_torch(module, sample_batch, loss=…, optimizer=…)",
        "coming_from_pytorch.md",
    ),
    Row(
        "from_tf_function",
        "hansa.learning.Model or hansa.learning.TrainableModel",
        "models.md",
    ),
    Row(
        "from_jax from_flax from_haiku from_equinox jax_model flax_model from_function",
        "hansa.learning.functional_model(initial_weights, forward, …)",
        "models.md",
    ),
    Row("VariableModel", "hansa.learning.Model or hansa.learning.TrainableModel", "coming_from_tff.md"),
    # Runs: Keras, Lightning, Flower, TFF.
    Row(
        "Trainer train_model run run_training_process learn start_simulation run_simulation start_server "
        "start_client ServerApp ServerConfig Server start run_server Simulation SimulatedServer loop "
        "run_federated_training FLTrainer FedMLRunner train_loop",
        "hansa.fit(process, data, rounds=…)",
        "training.md",
    ),
    Row(
        "Client ClientApp NumPyClient start_numpy_client FlowerClient client_fn ClientTrainer TrainingPlan Worker",
        "a client is its data; what it does is the model: hansa.learning.from_compiled_keras_model or "
        "hansa.learning.functional_model, and hansa.fit for the rounds",
        "coming_from_flower.md",
    ),
    Row(
        "ArrayRecord MetricRecord ConfigRecord RecordDict Parameters ndarrays_to_parameters parameters_to_ndarrays",
        "nothing: the type of a computation says what is sent, and a value is arrays, lists and dicts",
        "coming_from_flower.md",
    ),
    Row("ModelCheckpoint", "hansa.program.BestModel(…), or folder= of hansa.program.train", "runs.md"),
    Row("CSVLogger CSVFileReleaseManager", "hansa.program.CSV(path)", "runs.md"),
    Row(
        "TensorBoardLogger TensorBoardReleaseManager SummaryWriter",
        "hansa.program.TensorBoard(folder)",
        "runs.md",
    ),
    Row("WandbLogger WandbCallback wandb", "hansa.program.WeightsAndBiases()", "runs.md"),
    Row("MLFlowLogger", "hansa.program.MLflow()", "runs.md"),
    Row(
        "ProgressBar ProgbarLogger TQDMProgressBar RichProgressBar",
        "progress=True of hansa.program.train",
        "runs.md",
    ),
    Row(
        "FileProgramStateManager FileCheckpointManager CheckpointManager",
        "folder= of hansa.program.train, or hansa.program.save_checkpoint",
        "runs.md",
    ),
    Row("callbacks LambdaCallback", "hansa.program.Callback, or a function in callbacks=[…]", "runs.md"),
    Row("LearningRateScheduler ReduceLROnPlateau", "a schedule of Optax as the learning rate", "models.md"),
    # Data.
    Row(
        "DataLoader Dataset FederatedDataset FederatedDataLoader BaseDataset FedDataset TensorDataset datasets data "
        " ClientDataset federated_data create_federated_data TestClientData DataModule "
        "LightningDataModule",
        "hansa.simulation.ClientData.from_arrays(arrays, clients), or a reader such as hansa.simulation.from_csv",
        "data.md",
    ),
    Row(
        "FromTensorSlicesClientData from_client_and_fn from_clients_and_tf_fn FilePerUserClientData "
        "from_tensor_slices from_dict from_datasets from_numpy from_arrays from_clients from_tensors",
        "hansa.simulation.ClientData.from_arrays(arrays, clients), hansa.simulation.ClientData.from_clients({id: "
        "arrays}) or hansa.simulation.ClientData.from_function(ids, function)",
        "data.md",
    ),
    Row("SqlClientData load_and_parse_sql_client_data", "hansa.simulation.from_tff_sqlite(path)", "sources.md"),
    Row("HDF5ClientData", "hansa.simulation.from_tff_hdf5(path)", "sources.md"),
    Row("from_tf_dataset from_tf from_tfds tfds", "hansa.simulation.from_tf_datasets({id: dataset})", "sources.md"),
    Row(
        "from_pandas from_dataframe from_df from_polars read_frame",
        "hansa.simulation.from_frame(frame, …)",
        "sources.md",
    ),
    Row("read_csv load_csv CSVDataset", "hansa.simulation.from_csv(path, …)", "sources.md"),
    Row("read_parquet load_parquet", "hansa.simulation.from_parquet(path, …)", "sources.md"),
    Row(
        "image_dataset_from_directory ImageFolder from_images from_image_folder from_directory",
        "hansa.simulation.from_folder(path)",
        "sources.md",
    ),
    Row(
        "load_dataset from_hf HuggingFaceDataset from_datasets_library",
        "hansa.simulation.from_huggingface",
        "sources.md",
    ),
    Row("DirichletPartitioner dirichlet lda partition_lda", "hansa.simulation.partition_dirichlet", "data.md"),
    Row(
        "IidPartitioner iid partition partitioner random_split RandomPartitioner",
        "hansa.simulation.partition_iid",
        "data.md",
    ),
    Row("ShardPartitioner shards", "hansa.simulation.partition_shards", "data.md"),
    Row("PathologicalPartitioner non_iid  partition_non_iid", "hansa.simulation.partition_by_label", "data.md"),
    Row(
        "NaturalIdPartitioner natural",
        "hansa.simulation.ClientData.from_arrays(arrays, clients)",
        "data.md",
    ),
    Row("LinearPartitioner SquarePartitioner SizePartitioner", "hansa.simulation.partition_by_quantity", "data.md"),
    Row(
        "build_uniform_sampling_fn build_uniform_client_sampling_fn sample_clients sampler UniformClientSampler "
        "client_sampling ClientManager SimpleClientManager RandomSampler",
        "hansa.simulation.UniformSampler(clients, cohort)",
        "data.md",
    ),
    Row("emnist femnist", "hansa.simulation.load_emnist()", "data.md"),
    Row("mnist", "hansa.simulation.load_mnist()", "data.md"),
    Row("cifar10", "hansa.simulation.load_cifar10()", "data.md"),
    Row("cifar100", "hansa.simulation.load_cifar100()", "data.md"),
    Row("shakespeare", "hansa.simulation.load_shakespeare()", "data.md"),
    # The language.
    Row(
        "tensorflow_computation tf_function computation tff_computation local_computation jit pure_callback",
        "hansa.jax_computation, or hansa.tf_computation for a function in TensorFlow",
        "coming_from_tff.md",
    ),
    Row(
        "federated_reduce federated_apply secure_sum secure_aggregation SecAgg",
        "hansa.federated_secure_sum, hansa.federated_aggregate and others",
        "language.md",
    ),
    Row("federated_zip_at_clients zip", "hansa.federated_zip(value)", "language.md"),
    Row("federated_eval_at_clients", "hansa.federated_eval(fn, hansa.CLIENTS)", "language.md"),
    Row("federated_broadcast_at_clients broadcast", "hansa.federated_broadcast(value)", "language.md"),
    Row("federated_sample", "hansa.federated_collect(value)", "language.md"),
    Row("Process", "hansa.templates.IterativeProcess", "coming_from_tff.md"),
    Row(
        "EstimationProcess",
        "hansa.templates.MeasuredProcess",
        "coming_from_tff.md",
    ),
    Row("types_of type_at_clients at_clients", 'hansa.to_type("{float32[10]}@CLIENTS")', "language.md"),
    Row("NamedTupleType StructWithPythonType", "hansa.StructType", "language.md"),
    Row("ComputationType", "hansa.FunctionType", "language.md"),
    Row(
        "backends framework set_local_execution_context set_sync_local_cpp_execution_context execution_contexts "
        "set_default_context set_default_executor ray backend device devices",
        "nothing; computations run in this process, and hansa.set_runtime chooses otherwise",
        "language.md",
    ),
)

_PREDICTION = "hansa.learning.build_prediction(model_fn, state.model), or keras_model.predict after assign_weights_to"
_SAMPLED = "data.cohort(positions), with positions of hansa.simulation.UniformSampler(len(data), cohort)"
MEMBERS = {
    "ModelWeights": {
        "predict": _PREDICTION,
        "evaluate": "hansa.learning.build_federated_evaluation(model_fn)(state.model, data.cohort(…))",
        "save": "hansa.learning.save_weights(state.model, path), or state.model.save_keras(keras_model, path)",
        "get_weights": "state.model.trainable and state.model.non_trainable",
        "weights": "state.model.trainable and state.model.non_trainable",
    },
    "ClientData": {
        "create_tf_dataset_for_client": "data.client(client_id)",
        "dataset_computation": "data.cohort(client_positions)",
        "create_tf_dataset_from_all_clients": "data.centralized()",
        "preprocess": "data.map(function), data.shuffle(seed), data.repeat(epochs) and data.batch(size)",
        "train_test_client_split": "data.split(0.2)",
        "train_test_split": "data.split(0.2)",
        "random_split": "data.split(0.2)",
        "load_partition": "data.client(client_id)",
        "load_split": "data.centralized()",
        "datasets": "[data.client(client_id) for client_id in data.client_ids]",
        "element_type_structure": "data.example_type",
        "element_spec": "data.example_type",
        "num_clients": "len(data)",
        "clients": "data.client_ids",
        "ids": "data.client_ids",
        "sample": _SAMPLED,
        "sample_clients": _SAMPLED,
        "select": "data.cohort(positions)",
        "to_numpy": "data.centralized()",
        "prefetch": "data.in_memory(), where the examples fit in memory",
        "cache": "data.in_memory()",
        "fit": "hansa.fit(process, data, rounds=…)",
    },
    "IterativeProcess": {
        "run": "hansa.fit(process, data, rounds=…), or state, metrics = process.next(state, data.cohort(…))",
        "fit": "hansa.fit(process, data, rounds=…)",
        "train": "hansa.fit(process, data, rounds=…)",
        "step": "state, metrics = process.next(state, data.cohort(…))",
        "evaluate": "hansa.learning.build_federated_evaluation(model_fn)",
        "predict": "hansa.learning.build_prediction(model_fn, state.model)",
        "get_model_weights": "state.model",
        "set_model_weights": "hansa.learning.with_weights(state, weights)",
        "get_hparams": "process.settings",
        "init": "process.initialize()",
        "state": "state = process.initialize(); a process itself holds none",
        "save": "hansa.save(process, path)",
        "summary": "print(hansa.explain(process))",
        "type_signature": "process.next.type_signature",
    },
}
"""What is written for an attribute that an object of a class has not."""
