"""MPI-INF-3DHP (3DV 2017): official training and test annotations, and the community's npz files, to the contract."""
