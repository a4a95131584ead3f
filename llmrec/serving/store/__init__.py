"""What a service is told and must not lose: profiles, histories and changes of the catalogue."""
