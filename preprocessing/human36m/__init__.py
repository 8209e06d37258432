"""Human3.6M from its official files and from the archives the community passes around, as one file of the contract."""
