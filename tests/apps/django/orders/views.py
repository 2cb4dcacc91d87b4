from django.contrib import messages
from django.db import transaction
from django.shortcuts import redirect, render

from .forms import OrderForm
from .models import Order
from .tasks import count_words


def index(request):
    form = OrderForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        order = form.save()
        transaction.on_commit(lambda: count_words.delay(order.pk))
        messages.success(request, f"Thank you, {order.customer}.")
        return redirect("index")
    return render(request, "orders/index.html", {"form": form, "orders": Order.objects.order_by("pk")})
