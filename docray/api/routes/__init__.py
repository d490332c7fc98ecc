"""The calls of the contract, one subject a file. An endpoint reads as: what is asked, one service or transaction, what is answered."""
