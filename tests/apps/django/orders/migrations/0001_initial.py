from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Order",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("customer", models.CharField(max_length=100)),
                ("receipt", models.FileField(upload_to="receipts/")),
                ("words", models.PositiveIntegerField(editable=False, null=True)),
                ("created", models.DateTimeField(auto_now_add=True)),
            ],
        ),
    ]
