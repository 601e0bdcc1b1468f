"""Lava Processes of spikegen and their models.

Lava finds the models of a Process by executing every file in the folder of the Process's file, several times: keep
nothing here but Processes and models, and nothing that has an effect when it is imported.
"""
