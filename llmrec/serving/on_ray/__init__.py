"""Beyond one machine: files of requests with Ray Data, the service with Ray Serve. Alone imports ray."""
