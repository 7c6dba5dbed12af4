"""Can attention be very different while the output stays?"""
