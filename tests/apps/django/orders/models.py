from django.db import models


class Order(models.Model):
    customer = models.CharField(max_length=100)
    receipt = models.FileField(upload_to="receipts/")
    words = models.PositiveIntegerField(null=True, editable=False)
    created = models.DateTimeField(auto_now_add=True)

    def __str__(self):
        return self.customer
