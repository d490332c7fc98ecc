"""Who may do what: secrets of API keys, authentication of requests, scopes, rates. Leaves storing keys to `docray.stores`."""
