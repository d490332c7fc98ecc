"""Ray Serve deployments: lifecycle, batching, scaling knobs. Not: business rules, SQL, prompts."""
