from celery import shared_task

from .models import Order


@shared_task
def count_words(order_id):
    order = Order.objects.get(pk=order_id)
    with order.receipt.open("rb") as receipt:
        order.words = len(receipt.read().split())
    order.save(update_fields=["words"])
