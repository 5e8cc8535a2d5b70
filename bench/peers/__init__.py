"""SASRec of other libraries on the same sequences: how many users a second does each train?"""
