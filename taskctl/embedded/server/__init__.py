"""The API server: learns its kinds from CustomResourceDefinitions."""
