"""Draws clients.png: python docs/images/clients.py"""

from pathlib import Path

from hansa.simulation import ClientData, load_digits, partition_dirichlet, plot_clients

PICTURE = Path(__file__).with_suffix(".png")


def figure():
    digits = load_digits()
    client_of = partition_dirichlet(digits.train_labels, clients=20, alpha=0.3, seed=0)
    data = ClientData.from_arrays({"x": digits.train_images, "y": digits.train_labels}, client_of)
    return plot_clients(data, title="The digits of twenty clients, Dirichlet 0.3")


if __name__ == "__main__":
    figure().savefig(PICTURE)
    print(PICTURE)
