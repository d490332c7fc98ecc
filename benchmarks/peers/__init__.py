"""What docray is measured against: straightforward programs of others' libraries. For comparison only, no part of docray; they run in a virtual
environment of their own, made from `requirements.txt` (resolved from `requirements.in`)."""
